/*
 * Clock and timers. Public time is counted in centiseconds (cs).
 *
 * `now` starts at the centisecond fraction of the start second and advances
 * with the monotonic clock, so starttime + now / 100 is the wall clock at the
 * start of the node and does not follow later adjustments.
 *
 * A timer is a message to come: type PTYPE_RESPONSE, source 0, the session
 * given, no data. Timers are not cancelled; expiry for a dead service is
 * dropped. One timer thread sleeps exactly until the earliest deadline.
 */
#ifndef SKYNET_TIMER_H
#define SKYNET_TIMER_H

#include <stdint.h>

/*
 * Send service `handle` a timer message after `time` cs: on the time-th tick
 * from now. time <= 0 queues it at once. Timers of one service that expire on
 * the same tick arrive in the order of these calls. Returns session, or -1
 * when time <= 0 and the handle is dead. Any thread.
 */
int skynet_timeout(uint32_t handle, int time, int session);

/* Wall clock at start, seconds since 1970 UTC; constant. Any thread. */
uint32_t skynet_starttime(void);

/* CPU time of the calling thread in microseconds. Any thread. */
uint64_t skynet_thread_time(void);

/* Before any thread starts. */
void skynet_timer_init(void);

/* After every thread ended: free what is pending. */
void skynet_timer_exit(void);

/* Fire everything that is due. Timer thread only. */
void skynet_updatetime(void);

/* Body of the timer thread: returns after skynet_timer_stop. */
void skynet_timer_loop(void);

/* Ends skynet_timer_loop. Any thread. */
void skynet_timer_stop(void);

#endif
