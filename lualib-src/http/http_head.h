// Heads of HTTP/1.1 messages: where one ends, what it says, and whether its framing can
// be read in one way only (RFC 9110, RFC 9112).
//
// Pure functions over the bytes of a peer. They own nothing, allocate nothing, keep
// nothing between calls but what the caller holds, and may run on any thread. What they
// give are places in the caller's bytes, valid as long as those.
#ifndef http_head_h
#define http_head_h

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// No message may have more fields than that, whatever the limits say.
#define HTTP_MAX_FIELDS 256

struct http_limits {
	size_t line;  // bytes of one line, with its end
	size_t total; // bytes of the head, with its blank line
	int fields;   // lines after the first
};

// Why a message is refused. `status` is what a server answers.
struct http_fault {
	int status;
	const char *why; // static text
};

// How far the search for the end has come; zero at the beginning.
struct http_scan {
	size_t line; // where the current line begins
	size_t seen; // bytes known to hold no further end of line
	int lines;   // complete lines
};

struct http_text {
	const char *p;
	size_t n;
};

struct http_field {
	struct http_text name;  // as it came, a token
	struct http_text value; // without blanks around
};

enum http_flag {
	HTTP_CHUNKED = 1 << 0,      // the body comes in chunks
	HTTP_CODED = 1 << 1,        // a transfer coding other than chunked
	HTTP_CLOSE = 1 << 2,        // Connection: close
	HTTP_KEEP_ALIVE = 1 << 3,   // Connection: keep-alive
	HTTP_UPGRADE = 1 << 4,      // Connection: upgrade
	HTTP_EXPECT = 1 << 5,       // Expect: 100-continue
	HTTP_EXPECT_OTHER = 1 << 6, // Expect: something else
	HTTP_NO_HOST = 1 << 7,      // HTTP/1.1 without Host
};

struct http_head {
	struct http_text method, target; // of a request
	int status;                      // of a response
	struct http_text reason;
	int minor;      // HTTP/1.minor
	int64_t length; // Content-Length, or -1
	unsigned flags;
	int fields;
	struct http_field field[HTTP_MAX_FIELDS];
};

// Search the end of a head, or of a trailer section, in the first `n` bytes. A line ends
// with CRLF; another end of line is a fault, and so is a limit passed, even before the
// end is there. `scan` makes the next search, with more bytes, go on where this stopped.
// Result: the bytes up to and with the blank line; 0: more are needed; -1: `fault` is set.
ptrdiff_t http_head_end(const char *p, size_t n, const struct http_limits *limits,
                        struct http_scan *scan, struct http_fault *fault);

// Take apart a head that http_head_end has measured. False: `fault` is set.
bool http_request_parse(const char *p, size_t n, struct http_head *h, struct http_fault *fault);
bool http_response_parse(const char *p, size_t n, struct http_head *h, struct http_fault *fault);

// Take apart the fields of a trailer section, likewise; fields that would change the
// framing or routing of the message are left out (RFC 9110, 6.5.1).
bool http_trailer_parse(const char *p, size_t n, struct http_head *h, struct http_fault *fault);

// Whether it is a token (RFC 9110, 5.6.2): a name of a method or field.
bool http_is_token(const char *p, size_t n);
// No control bytes but tab.
bool http_is_value(const char *p, size_t n);
// Equal but for the case of letters; `lower` is in lower case.
bool http_is_name(const struct http_text *t, const char *lower, size_t n);

#endif
