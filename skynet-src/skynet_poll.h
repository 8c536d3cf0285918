// Who polls the network. Workers do, whenever one runs dry and from time to time while
// they are busy, so that a packet is read and its service run on one core, without a
// wake-up in between. A socket thread per loop steps in when no worker finds the time.
#ifndef skynet_poll_h
#define skynet_poll_h

// Puts the polling into the scheduler. After skynet_socket_init, before workers start.
void skynet_poll_init(void);
// Body of a loop's socket thread; returns after skynet_poll_exit.
void skynet_poll_thread(int loop);
// The first worker of a sleeping node was woken: socket threads that wait in place of
// workers look after it again. Any thread.
void skynet_poll_rouse(void);
// Ends the socket threads. Any thread.
void skynet_poll_exit(void);

#endif
