// Addresses of a gate's connections as it remembers them: a number where the text is that of
// an IPv4 address, which costs it no string per connection. Pure functions, any thread.
#ifndef netpack_address_h
#define netpack_address_h

#include <stddef.h>
#include <stdint.h>

// "255.255.255.255:65535" and its NUL fit.
#define BRIEF_TEXT_SIZE 24

// The number of "a.b.c.d:port", n bytes, 0 to 2^48 - 1; -1 if that is not how
// address_from_brief would write it.
int64_t address_to_brief(const char *text, size_t n);
// Writes the text, with a NUL, and returns its length. What is above 48 bits is ignored.
size_t address_from_brief(int64_t brief, char text[BRIEF_TEXT_SIZE]);

#endif
