/* connect(2) through io_uring. usage: uring plain|sqpoll|async ADDRESS PORT. Prints `setup ERRNO`, `connect ERRNO`, or what
 * the other side says. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static char *map(int ring, size_t size, off_t what)
{
	return mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, what);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	int sqpoll = !strcmp(argv[1], "sqpoll"), async = !strcmp(argv[1], "async");
	struct io_uring_params p = { .flags = sqpoll ? IORING_SETUP_SQPOLL : 0, .sq_thread_idle = 2000 };
	int ring = syscall(SYS_io_uring_setup, 8, &p);
	if (ring < 0) {
		printf("setup %d", errno);
		return 0;
	}
	char *sq = map(ring, p.sq_off.array + p.sq_entries * 4, IORING_OFF_SQ_RING);
	char *cq = map(ring, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
	struct io_uring_sqe *sqe = (void *)map(ring, p.sq_entries * sizeof *sqe, IORING_OFF_SQES);

	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[3])) };
	inet_pton(AF_INET, argv[2], &to.sin_addr);
	memset(sqe, 0, sizeof *sqe);
	sqe->opcode = IORING_OP_CONNECT;
	sqe->flags = async ? IOSQE_ASYNC : 0;
	sqe->fd = fd;
	sqe->addr = (unsigned long)&to;
	sqe->off = sizeof to;

	unsigned *tail = (void *)(sq + p.sq_off.tail), *mask = (void *)(sq + p.sq_off.ring_mask);
	unsigned *array = (void *)(sq + p.sq_off.array), *flags = (void *)(sq + p.sq_off.flags);
	array[*tail & *mask] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_SEQ_CST);
	if (sqpoll && (__atomic_load_n(flags, __ATOMIC_SEQ_CST) & IORING_SQ_NEED_WAKEUP))
		syscall(SYS_io_uring_enter, ring, 0, 0, IORING_ENTER_SQ_WAKEUP, 0, 0);
	syscall(SYS_io_uring_enter, ring, sqpoll ? 0 : 1, 1, IORING_ENTER_GETEVENTS, 0, 0);

	struct io_uring_cqe *done = (void *)(cq + p.cq_off.cqes);
	if (done->res) {
		printf("connect %d", -done->res);
		return 0;
	}
	char answer[600] = { 0 };
	struct pollfd readable = { fd, POLLIN, 0 };
	if (write(fd, "hi\n", 3) == 3 && poll(&readable, 1, 5000) == 1 && read(fd, answer, sizeof answer - 1) > 0)
		printf("%s %d", strtok(answer, "\n"), getpid());
	return 0;
}
