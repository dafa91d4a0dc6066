/* Let the kernel look up several names of a directory at once, as it does for NFS.
 *
 * libfuse before 3.17 has this capability (FUSE_CAP_PARALLEL_DIROPS) and does not pass it on to the kernel, which then
 * looks up one name after the other (https://github.com/libfuse/libfuse/pull/861). Loaded by LD_PRELOAD into the
 * process that serves a view, this sets the flag in the first answer that it gives the kernel, the one to FUSE_INIT.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/fuse.h>
#include <sys/uio.h>

ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    static int is_done;
    ssize_t (*next)(int, const struct iovec *, int) = dlsym(RTLD_NEXT, "writev");
    if (!is_done && count == 2 && parts[0].iov_len == sizeof(struct fuse_out_header)) {
        struct fuse_init_out *answer = parts[1].iov_base;
        is_done = 1;
        if (answer->major == FUSE_KERNEL_VERSION)
            answer->flags |= FUSE_PARALLEL_DIROPS;
    }
    return next(descriptor, parts, count);
}
