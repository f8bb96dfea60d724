/*
 * raw PORT echo|broadcast|websocket: what no server on this kernel can undercut. No memory per connection: one thread,
 * level-triggered epoll, per event one read into one buffer and one write. echo sends back what it gets; broadcast sends
 * what the oldest connection says to all, itself included, and ignores the others; neither has a protocol. websocket is
 * echo with the least that WebSocket asks for: it takes off the mask and the client's header, tells ASCII from the rest,
 * and checks nothing else: whole, short frames of our own load tool, whose handshake has always the same key.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 512, BUFFER = 64 << 10, FILES = 1 << 20 };

static int conns[FILES], count; /* in the order of their coming */

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* A peer that does not take its bytes holds everybody up: the load tool always does. */
static void send_all(int fd, const char *p, ssize_t n)
{
	while (n > 0) {
		ssize_t sent = write(fd, p, n);
		if (sent > 0) {
			p += sent;
			n -= sent;
		} else if (errno == EAGAIN) {
			struct pollfd wait = {.fd = fd, .events = POLLOUT};
			poll(&wait, 1, 1000);
		} else if (errno != EINTR) {
			return;
		}
	}
}

static void forget(int fd)
{
	for (int i = 0; i < count; i++) {
		if (conns[i] == fd) {
			memmove(conns + i, conns + i + 1, (--count - i) * sizeof *conns);
			break;
		}
	}
	close(fd);
}

/* Returns the length of the answer to the frames in p, or to the handshake; 0 ends the connection. */
static ssize_t answer(char *out, const char *p, ssize_t n)
{
	static const char accepted[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
				       "Sec-WebSocket-Accept: eSwiLPw1yDQ/RRcBFOP2WbNn7Og=\r\n\r\n";
	ssize_t size = 0;

	if (*p == 'G') {
		if (!memmem(p, n, "websocket", 9))
			return 0;
		memcpy(out, accepted, sizeof accepted - 1);
		return sizeof accepted - 1;
	}
	for (const char *end = p + n; end - p >= 6;) {
		int length = p[1] & 127, i = 0;
		uint32_t mask;
		uint64_t key, word, seen = 0;
		if (length > 125 || end - p < 6 + length)
			return 0;
		memcpy(&mask, p + 2, 4);
		key = mask | (uint64_t)mask << 32;
		out[size] = p[0];
		out[size + 1] = length;
		p += 6;
		size += 2;
		for (; i + 8 <= length; i += 8) {
			memcpy(&word, p + i, 8);
			seen |= word ^= key;
			memcpy(out + size + i, &word, 8);
		}
		for (; i < length; i++)
			seen |= (unsigned char)(out[size + i] = p[i] ^ key >> 8 * (i & 7));
		if (seen & 0x8080808080808080)
			return 0;
		p += length;
		size += length;
	}
	return size;
}

int main(int argc, char **argv)
{
	static char buffer[BUFFER], out[BUFFER];
	static struct epoll_event events[BATCH];
	struct rlimit files;
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int one = 1, broadcast, websocket;

	if (argc != 3 || (strcmp(argv[2], "echo") && strcmp(argv[2], "broadcast") && strcmp(argv[2], "websocket"))) {
		fprintf(stderr, "usage: raw PORT echo|broadcast|websocket\n");
		return 2;
	}
	addr.sin_port = htons(atoi(argv[1]));
	broadcast = !strcmp(argv[2], "broadcast");
	websocket = !strcmp(argv[2], "websocket");
	if (getrlimit(RLIMIT_NOFILE, &files))
		fail("getrlimit");
	files.rlim_cur = files.rlim_max < FILES ? files.rlim_max : FILES;
	if (setrlimit(RLIMIT_NOFILE, &files))
		fail("setrlimit");

	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener < 0)
		fail("socket");
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* the accepted inherit it */
	if (bind(listener, (struct sockaddr *)&addr, sizeof addr))
		fail("bind");
	if (listen(listener, 4096))
		fail("listen");
	int set = epoll_create1(EPOLL_CLOEXEC);
	if (set < 0)
		fail("epoll_create1");
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = listener};
	if (epoll_ctl(set, EPOLL_CTL_ADD, listener, &ev))
		fail("epoll_ctl");

	for (;;) {
		int n = epoll_wait(set, events, BATCH, -1);
		if (n < 0 && errno != EINTR)
			fail("epoll_wait");
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			if (fd == listener) {
				int c = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
				if (c < 0)
					continue;
				ev = (struct epoll_event){.events = EPOLLIN, .data.fd = c};
				if (c >= FILES || epoll_ctl(set, EPOLL_CTL_ADD, c, &ev)) {
					close(c);
					continue;
				}
				conns[count++] = c;
				continue;
			}
			ssize_t got = read(fd, buffer, sizeof buffer);
			if (got < 0 && (errno == EAGAIN || errno == EINTR))
				continue;
			if (got <= 0) {
				forget(fd);
			} else if (websocket) {
				got = answer(out, buffer, got);
				if (got)
					send_all(fd, out, got);
				else
					forget(fd);
			} else if (!broadcast) {
				send_all(fd, buffer, got);
			} else if (fd == conns[0]) {
				for (int j = 0; j < count; j++)
					send_all(conns[j], buffer, got);
			}
		}
	}
}
