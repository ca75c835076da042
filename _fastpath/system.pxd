"""Declarations of the Linux system calls that the compiled part uses."""

cdef extern from "<sys/socket.h>" nogil:
    ssize_t send(int fd, const void* data, size_t size, int flags)
    ssize_t recv(int fd, void* data, size_t size, int flags)
    int setsockopt(int fd, int level, int name, const void* value, unsigned int size)
    int getsockopt(int fd, int level, int name, void* value, unsigned int* size)
    int shutdown(int fd, int how)
    int SHUT_RDWR
    int MSG_DONTWAIT
    int MSG_NOSIGNAL

cdef extern from *:
    """
    /* non-blocking, no signal, and no data are appended to the buffer of an earlier send: without MSG_EOR the kernel
       fills its newest buffer, of up to 64 KiB, regardless of TCP_NOTSENT_LOWAT */
    #define SEND_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL | MSG_EOR)
    """
    const int SEND_FLAGS

cdef extern from "<netinet/in.h>" nogil:
    int IPPROTO_TCP

cdef extern from "<netinet/tcp.h>" nogil:
    cdef struct tcp_info:
        unsigned int tcpi_last_data_recv  # milliseconds since the last data arrived [tcp(7)]
        unsigned int tcpi_rtt  # the smoothed round trip in microseconds

    int TCP_INFO

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    ssize_t read(int fd, void* data, size_t size)
    ssize_t write(int fd, const void* data, size_t size)

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, int* value)
    unsigned long FIONREAD
    unsigned long TIOCOUTQ

cdef extern from "<linux/sockios.h>" nogil:
    unsigned long SIOCOUTQNSD  # bytes that are not sent yet [tcp(7)]

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int value, int flags)
    int EFD_CLOEXEC
    int EFD_NONBLOCK

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        void* ptr

    cdef struct epoll_event:
        unsigned int events
        epoll_data_t data

    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int operation, int fd, epoll_event* event)
    int epoll_wait(int epoll, epoll_event* events, int count, int timeout)
    int EPOLL_CLOEXEC
    int EPOLL_CTL_ADD
    int EPOLL_CTL_MOD
    int EPOLL_CTL_DEL
    unsigned int EPOLLIN
    unsigned int EPOLLOUT
    unsigned int EPOLLERR
    unsigned int EPOLLHUP

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec

    int clock_gettime(int clock, timespec* now)
    int CLOCK_MONOTONIC

cdef inline double monotonic() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9
