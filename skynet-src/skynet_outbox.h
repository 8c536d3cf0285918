// What services send to sockets goes out in few writes, soon. A send of a callback is
// queued at its socket; the thread that ran the callback writes it a little later,
// together with what it has gathered for other sockets meanwhile.
//
// Owns which sockets each worker still has to flush. outbox_send, outbox_end and
// outbox_flush belong to the calling thread, outbox_rescue may be called by any; no
// function waits.
#ifndef skynet_outbox_h
#define skynet_outbox_h

struct socket_server;
struct socket_sendbuffer;

// As socket_server_send.
int outbox_send(struct socket_server *ss, struct socket_sendbuffer *b);
// A callback is over: flushes when enough is gathered, or it is old.
void outbox_end(struct socket_server *ss);
// Flushes all that this thread has gathered: it has nothing else to do.
void outbox_flush(struct socket_server *ss);
// Flushes for the threads that have gathered something and not come back to it since
// the last call: a callback takes long.
void outbox_rescue(struct socket_server *ss);
// Once all threads have ended.
void outbox_free(void);

#endif
