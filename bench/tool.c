/* Traffic for benchmarks: a small TCP server and client whose own cost hides nothing.
 *
 *   tool NETNS CPU serve PORT                      says "ready" when it listens: echo on PORT, sink on PORT + 1, echo for
 *                                                  many at once on PORT + 2, UDP echo on PORT + 3, and datagrams that
 *                                                  nobody reads on PORT + 4
 *   tool NETNS CPU rr|crr ADDRESS PORT SECONDS     one byte there and back, on one connection or on a new one each time
 *   tool NETNS CPU stream ADDRESS PORT SECONDS     64 KiB writes
 *   tool NETNS CPU frames DEVICE HEX SECONDS       one frame over and over, handed to the device as a driver hands on what
 *                                                  XDP sends: the other end of a veth gets it as from a network card
 *   tool NETNS CPU hold ADDRESS PORT COUNT         COUNT connections, one byte on each every 10 ms until stdin closes
 *   tool NETNS CPU watch ADDRESS PORT 0            datagrams all the time; "up TIME" and "down TIME" when answers begin and
 *                                                  end: when the first datagram was sent that was (not) answered
 *
 * NETNS: a namespace file to enter first. CPU: to be pinned to, -1 for none. Results are one line of JSON on stdout,
 * times in nanoseconds. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CHUNK 65536
#define SAMPLES 4000000
#define MAX_CONNECTIONS 256
#define STALL_MS 5000
#define WATCH_US 200
#define FRAME_MAX 256
#define FRAMES_AT_ONCE 65536
#define STALLED 150000000LL /* ns: longer than any turn of the scheduler, shorter than TCP waits before it sends again */
#define UNANSWERED 100 /* datagrams in a row until the way counts as closed */

static char buffer[CHUNK];
static unsigned int samples[SAMPLES];

static void die(const char *what)
{
	fprintf(stderr, "tool: %s: %s\n", what, strerror(errno));
	exit(1);
}

static long long now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die(path);
	close(fd);
}

/* Closed connections leave no TIME-WAIT behind: thousands a second would fill the port range, and a search for a free
 * port is not what is measured. The sysctl belongs to the namespace. */
static void enter(const char *netns, int cpu)
{
	int fd = open(netns, O_RDONLY);
	cpu_set_t set;

	if (fd < 0 || setns(fd, CLONE_NEWNET))
		die(netns);
	close(fd);
	write_file("/proc/sys/net/ipv4/tcp_max_tw_buckets", "0");
	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

static void nodelay(int fd)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static int listen_on(int port, int type)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_any };
	int on = 1, off = 0, fd = socket(AF_INET6, type, 0);

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) || (type == SOCK_STREAM && listen(fd, 1024)))
		die("listen");
	return fd;
}

/* One client at a time, until it closes: no poll between a request and its answer. */
static void serve_one(int listener, int echo)
{
	int fd = accept(listener, NULL, NULL);
	ssize_t got;

	if (fd < 0)
		return;
	nodelay(fd);
	while ((got = read(fd, buffer, sizeof(buffer))) > 0)
		if (echo && write(fd, buffer, got) != got)
			break;
	close(fd);
}

/* Many clients at once, each echoed. Used beside `hold`; costs a poll, so it is not the server of `rr`. */
static void serve_many(int listener)
{
	struct pollfd fds[MAX_CONNECTIONS + 1] = { { .fd = listener, .events = POLLIN } };
	int count = 1;

	while (poll(fds, count, -1) >= 0) {
		if (fds[0].revents && count <= MAX_CONNECTIONS) {
			fds[count] = (struct pollfd){ .fd = accept(listener, NULL, NULL), .events = POLLIN };
			nodelay(fds[count++].fd);
		}
		for (int i = 1; i < count; i++) {
			ssize_t got = fds[i].revents ? read(fds[i].fd, buffer, sizeof(buffer)) : 1;

			if (fds[i].revents && got > 0)
				got = write(fds[i].fd, buffer, got);
			if (got <= 0) {
				close(fds[i].fd);
				fds[i--] = fds[--count];
			}
		}
	}
}

static void serve_datagrams(int fd)
{
	struct sockaddr_in6 peer;
	socklen_t length = sizeof(peer);
	ssize_t got;

	while ((got = recvfrom(fd, buffer, sizeof(buffer), 0, (struct sockaddr *)&peer, &length)) >= 0)
		sendto(fd, buffer, got, 0, (struct sockaddr *)&peer, length);
}

static void serve(int port)
{
	struct pollfd fds[2] = {
		{ .fd = listen_on(port, SOCK_STREAM), .events = POLLIN },
		{ .fd = listen_on(port + 1, SOCK_STREAM), .events = POLLIN },
	};
	int many = listen_on(port + 2, SOCK_STREAM), datagrams = listen_on(port + 3, SOCK_DGRAM);

	listen_on(port + 4, SOCK_DGRAM);

	puts("ready");
	fflush(stdout);
	if (fork() == 0)
		serve_many(many);
	if (fork() == 0)
		serve_datagrams(datagrams);
	while (poll(fds, 2, -1) > 0)
		for (int i = 0; i < 2; i++)
			if (fds[i].revents)
				serve_one(fds[i].fd, i == 0);
}

static int connect_to(const char *address, int port, int type)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int is_v6 = strchr(address, ':') != NULL;
	int fd = socket(is_v6 ? AF_INET6 : AF_INET, type, 0);

	inet_pton(is_v6 ? AF_INET6 : AF_INET, address, is_v6 ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr);
	if (fd < 0 || connect(fd, is_v6 ? (void *)&v6 : (void *)&v4, is_v6 ? sizeof(v6) : sizeof(v4)))
		die("connect");
	nodelay(fd);
	return fd;
}

static int compare(const void *a, const void *b)
{
	unsigned int x = *(const unsigned int *)a, y = *(const unsigned int *)b;

	return (x > y) - (x < y);
}

static int answered(int fd)
{
	return write(fd, "x", 1) == 1 && read(fd, buffer, 1) == 1;
}

static void latency(const char *address, int port, double seconds, int reconnect)
{
	long long before = now(CLOCK_MONOTONIC), end = before + seconds * 1e9, after;
	int count = 0, stalled = 0, fd = reconnect ? -1 : connect_to(address, port, SOCK_STREAM);

	while (count < SAMPLES && before < end) {
		if (reconnect)
			fd = connect_to(address, port, SOCK_STREAM);
		if (!answered(fd))
			die("request");
		if (reconnect)
			close(fd);
		after = now(CLOCK_MONOTONIC);
		stalled += after - before > STALLED;
		samples[count++] = after - before;
		before = after;
	}
	qsort(samples, count, sizeof(*samples), compare);
	printf("{\"count\": %d, \"median\": %u, \"stalled\": %d}\n", count, samples[count / 2], stalled);
}

static void stream(const char *address, int port, double seconds)
{
	int fd = connect_to(address, port, SOCK_STREAM);
	long long end = now(CLOCK_MONOTONIC) + seconds * 1e9, bytes = 0;

	while (now(CLOCK_MONOTONIC) < end) {
		ssize_t sent = write(fd, buffer, sizeof(buffer));

		if (sent < 0)
			die("write");
		bytes += sent;
	}
	shutdown(fd, SHUT_WR);
	if (read(fd, buffer, 1) != 0) /* the server has read everything */
		die("shutdown");
	printf("{\"bytes\": %lld, \"cpu\": %lld}\n", bytes, now(CLOCK_PROCESS_CPUTIME_ID));
}

static int bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

/* A program that makes its packet the frame, whatever became of it when it was sent before, and redirects it. */
static int redirecting(int ifindex, const char *frame, int length)
{
	struct bpf_insn program[FRAME_MAX / 4 + 16] = {
		{ .code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2, .src_reg = 1, .off = offsetof(struct xdp_md, data) },
		{ .code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 3, .src_reg = 1, .off = offsetof(struct xdp_md, data_end) },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 4, .src_reg = 2 },
		{ .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 4, .imm = length },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = XDP_ABORTED },
		{ .code = BPF_JMP | BPF_JGT | BPF_X, .dst_reg = 4, .src_reg = 3, .off = length / 4 + 3 },
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_XDP, .insns = (unsigned long)program, .license = (unsigned long)"GPL",
	};
	int count = 6;

	for (int at = 0; at < length; at += 4) {
		program[count] = (struct bpf_insn){ .code = BPF_ST | BPF_MEM | BPF_W, .dst_reg = 2, .off = at };
		memcpy(&program[count++].imm, frame + at, 4);
	}
	program[count++] = (struct bpf_insn){ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 1, .imm = ifindex };
	program[count++] = (struct bpf_insn){ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2 };
	program[count++] = (struct bpf_insn){ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect };
	program[count++] = (struct bpf_insn){ .code = BPF_JMP | BPF_EXIT };
	attr.insn_cnt = count;
	return bpf(BPF_PROG_LOAD, &attr);
}

static void frames(const char *device, const char *hex, double seconds)
{
	long long end = now(CLOCK_MONOTONIC) + seconds * 1e9, sent = 0;
	int length = strlen(hex) / 2, program;

	if (length > FRAME_MAX || length % 4)
		die("frame length");
	for (int i = 0; i < length; i++)
		if (sscanf(hex + 2 * i, "%2hhx", (unsigned char *)buffer + i) != 1)
			die("frame");
	program = redirecting(if_nametoindex(device), buffer, length);
	if (program < 0)
		die("program");
	do {
		union bpf_attr attr = { .test = {
			.prog_fd = program, .data_in = (unsigned long)buffer, .data_size_in = length,
			.repeat = FRAMES_AT_ONCE, .flags = BPF_F_TEST_XDP_LIVE_FRAMES,
		} };

		if (bpf(BPF_PROG_TEST_RUN, &attr))
			die("test run");
		sent += FRAMES_AT_ONCE;
	} while (now(CLOCK_MONOTONIC) < end);
	printf("{\"sent\": %lld, \"cpu\": %lld}\n", sent, now(CLOCK_PROCESS_CPUTIME_ID));
}

/* Answers are waited for on every connection; one that does not come within STALL_MS is a lost connection. */
static void hold(const char *address, int port, int count)
{
	struct pollfd input = { .fd = 0, .events = POLLIN };
	struct timeval stall = { .tv_sec = STALL_MS / 1000 };
	int fds[MAX_CONNECTIONS], lost = 0;

	for (int i = 0; i < count; i++) {
		fds[i] = connect_to(address, port, SOCK_STREAM);
		setsockopt(fds[i], SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof(stall));
	}
	puts("ready");
	fflush(stdout);
	while (poll(&input, 1, 10) == 0)
		for (int i = 0; i < count; i++)
			if (fds[i] >= 0 && !answered(fds[i])) {
				close(fds[i]);
				fds[i] = -1;
				lost++;
			}
	printf("{\"lost\": %d}\n", lost);
}

static void watch(const char *address, int port)
{
	int fd = connect_to(address, port, SOCK_DGRAM), up = 0, silent = 0;
	struct timespec pause = { .tv_nsec = WATCH_US * 1000 };
	long long sent, unanswered = 0, echoed;

	puts("ready");
	fflush(stdout);
	for (;;) {
		sent = now(CLOCK_MONOTONIC);
		if (send(fd, &sent, sizeof(sent), 0) == sizeof(sent) && !silent++)
			unanswered = sent;
		nanosleep(&pause, NULL);
		while (recv(fd, &echoed, sizeof(echoed), MSG_DONTWAIT) == sizeof(echoed)) {
			silent = 0;
			if (!up)
				printf("up %lld\n", echoed);
			up = 1;
		}
		if (up && silent >= UNANSWERED) {
			printf("down %lld\n", unanswered);
			up = 0;
		}
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr, "usage: tool NETNS CPU serve PORT | rr|crr|stream|frames|hold|watch TO PORT NUMBER\n");
		return 2;
	}
	enter(argv[1], atoi(argv[2]));
	if (!strcmp(argv[3], "serve"))
		serve(atoi(argv[4]));
	else if (argc < 7)
		return 2;
	else if (!strcmp(argv[3], "stream"))
		stream(argv[4], atoi(argv[5]), atof(argv[6]));
	else if (!strcmp(argv[3], "frames"))
		frames(argv[4], argv[5], atof(argv[6]));
	else if (!strcmp(argv[3], "watch"))
		watch(argv[4], atoi(argv[5]));
	else if (!strcmp(argv[3], "hold"))
		hold(argv[4], atoi(argv[5]), atoi(argv[6]));
	else
		latency(argv[4], atoi(argv[5]), atof(argv[6]), !strcmp(argv[3], "crr"));
	return 0;
}
