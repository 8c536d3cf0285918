// Answers of the kernel that tests choose: preloaded into a node, this library stands
// between it and the system's calls, and lets those fail or fall short that the rules
// of a file say. The file is mapped by both sides, so that a test changes rules and reads
// counters while the node runs (test/faults.py is its side of it).
//
// Owns nothing but the mapping. Any thread; a rule is filled in by the test while it is
// not armed. Calls that libc makes inside itself are not seen, but for those of streams
// that fopen made: they become streams over open, read and write.
#ifndef faults_h
#define faults_h

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAULTS_RULES 16
#define FAULTS_MAGIC 0x746c7566u

// What of a rule's numbers is not meant.
#define FAULTS_NONE INT32_MIN

struct faults_rule {
	atomic_uint armed;
	atomic_uint seen; // calls that the rule is about
	atomic_uint hit;  // those that it has changed
	uint32_t first;   // from that call on, 1 = the first one
	uint32_t count;   // as many of them, 0 = all
	uint32_t chance;  // each with that probability, of UINT32_MAX; 0 = each
	uint32_t seed;
	int32_t error;  // fails with that errno
	int32_t limit;  // takes or gives that many bytes at most
	int32_t result; // is not made, and returns that
	char call[24];
	char on[96]; // part of the text of what it is about, see faults_text
};

struct faults_file {
	uint32_t magic;
	atomic_uint bad_closes; // of descriptors that were none
	struct faults_rule rule[FAULTS_RULES];
};

struct faults_verdict {
	int error;
	long limit;
	long result;
	bool is_made; // there is no result yet
};

// Whether a call has to do with any rule, which is all that it costs otherwise.
bool faults_are_armed(const char *call);
// What is to become of a call about the thing that `text` describes. errno stays.
struct faults_verdict faults_judge(const char *call, const char *text);
// A descriptor: "tcp:PORT>PEERPORT;", "listen:PORT;", "udp:PORT>PEERPORT;", "unix;", or what
// /proc calls it.
void faults_text(int fd, char *text, size_t size);
void faults_count_bad_close(void);

#endif
