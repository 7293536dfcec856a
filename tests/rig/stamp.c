/*
 * Preloaded into QEMU: adds the guest's time in nanoseconds to each line in which qtest reports an edge.
 * qtest writes that line in the instruction that moved the pin, so the time is exact; QEMU's own log
 * has only the host's time, which says nothing under -icount.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

extern int64_t qemu_clock_get_ns(int clock); /* exported by QEMU for its own modules */
enum { QEMU_CLOCK_VIRTUAL = 1 };

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    static ssize_t (*next)(int, const struct msghdr *, int);
    const struct iovec *line = message->msg_iov;
    if (!next)
        next = dlsym(RTLD_NEXT, "sendmsg");
    if (message->msg_iovlen != 1 || line->iov_len < 5 || memcmp(line->iov_base, "IRQ ", 4))
        return next(fd, message, flags);
    char stamped[64];
    int n = snprintf(stamped, sizeof stamped, "%.*s %lld\n", (int)line->iov_len - 1, (char *)line->iov_base,
                     (long long)qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL));
    return send(fd, stamped, n, MSG_NOSIGNAL) == n ? (ssize_t)line->iov_len : -1;
}
