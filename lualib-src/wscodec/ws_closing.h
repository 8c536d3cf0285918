// Which connections have got their close frame from a gate. Agents send to them without
// the gate, and a data frame after the close frame would break the protocol.
//
// One table for the process, of fixed size: an id is forgotten when another one needs its
// slot, which takes thousands of connections closing at once. Any thread, no waiting.
#ifndef ws_closing_h
#define ws_closing_h

#include <stdbool.h>

// Before the close frame is sent. Ids are not used again for a long time, so that nothing
// has to be taken out.
void ws_closing_mark(int id);
bool ws_closing_has(int id);

#endif
