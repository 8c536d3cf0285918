// What one callback sends to one socket goes out in few writes: the first send at once,
// the further ones together when the callback is over. All functions belong to the
// calling thread.
#ifndef skynet_outbox_h
#define skynet_outbox_h

struct socket_server;
struct socket_sendbuffer;

// As socket_server_send.
int outbox_send(struct socket_server *ss, struct socket_sendbuffer *b);
// The callback is over: sends what was held back.
void outbox_flush(struct socket_server *ss);

#endif
