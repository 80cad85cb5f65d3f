// relayfloor: the least a relay can do: read datagrams on one UDP port, send each to N ports. No protocol at all.
// --in PORT --out FIRSTPORT --n N --mode sendto|sendmmsg|gso|tick|uring  --seg S --hold-us H
// tick: sleeps H microseconds, then drains the socket and sends one UDP_SEGMENT message for each child (one wake-up a tick).
// gso: collects up to S datagrams or H microseconds, then one UDP_SEGMENT message for each child in one sendmmsg.
#include "common.h"
#ifdef WITH_URING
#include <liburing.h>
#endif
#include <netinet/udp.h>
#include <sys/prctl.h>
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
static struct mmsghdr m[1024], rm[64]; static struct iovec iv, riv[64]; static char cb[CMSG_SPACE(2)]; static struct sockaddr_in da[1024]; static unsigned char b[64 * 1316];
int main(int c, char **v) {
  int n = atoi(opt(c, v, "--n", "1")), in = atoi(opt(c, v, "--in", "20000")), out = atoi(opt(c, v, "--out", "21000")), seg = atoi(opt(c, v, "--seg", "1"));
  uint64_t hold = atof(opt(c, v, "--hold-us", "0")) * 1e3; const char *mode = opt(c, v, "--mode", "sendmmsg"), *dst = opt(c, v, "--dst", "127.0.0.1");
  int tick = !strcmp(mode, "tick"), g = tick || !strcmp(mode, "gso"), u = !strcmp(mode, "uring"), plain = !strcmp(mode, "sendto"); if (!g) seg = 1;
  if (tick) seg = 48;
  prctl(PR_SET_TIMERSLACK, 1);
  int s = socket(AF_INET, SOCK_DGRAM, 0), o = socket(AF_INET, SOCK_DGRAM, 0), sb = 8 << 20; setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &sb, 4); setsockopt(o, SOL_SOCKET, SO_SNDBUFFORCE, &sb, 4);
  struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(in), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }; if (bind(s, (void *)&a, sizeof a)) die("bind");
#ifdef WITH_URING
  struct io_uring ring; static int cs[1024]; if (u && io_uring_queue_init(1024, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN)) die("uring");
#else
  if (u) { fprintf(stderr, "relayfloor was built without liburing\n"); return 2; }
#endif
  for (int k = 0; k < n; k++) { da[k] = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(out + k) }; inet_aton(dst, &da[k].sin_addr);
    m[k].msg_hdr = (struct msghdr){ .msg_name = &da[k], .msg_namelen = sizeof da[k], .msg_iov = &iv, .msg_iovlen = 1 };
#ifdef WITH_URING
    if (u) { cs[k] = socket(AF_INET, SOCK_DGRAM, 0); if (connect(cs[k], (void *)&da[k], sizeof da[k])) die("connect"); }
#endif
  }
  int have = 0; uint64_t first = 0, at = now();
  for (;;) {
    if (tick && !have) { at += hold; struct timespec ts = { at / 1000000000, at % 1000000000 }; if (at > now()) clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL); else at = now();
      for (int j = 0; j < seg; j++) { riv[j] = (struct iovec){ b + j * 1316, 1316 }; rm[j].msg_hdr = (struct msghdr){ .msg_iov = &riv[j], .msg_iovlen = 1 }; }
      int r = recvmmsg(s, rm, seg, MSG_DONTWAIT, NULL); if (r <= 0) continue; have = r; goto send; }
    int w = -1; if (have) { uint64_t t = now(); w = first + hold > t ? 1 : 0; struct timespec ts = { 0, first + hold > t ? first + hold - t : 0 }; struct pollfd pf = { s, POLLIN, 0 }; w = ppoll(&pf, 1, &ts, NULL); }
    if (w != 0) {
      if (g) {
        for (int j = have; j < seg; j++) { riv[j] = (struct iovec){ b + j * 1316, 1316 }; rm[j].msg_hdr = (struct msghdr){ .msg_iov = &riv[j], .msg_iovlen = 1 }; }
        int r = recvmmsg(s, rm + have, seg - have, have ? MSG_DONTWAIT : MSG_WAITFORONE, NULL); if (r > 0) { if (!have) first = now(); have += r; }
      } else { ssize_t r = recv(s, b, 1316, 0); if (r <= 0) continue; have = 1; first = 0; }
    }
    if (have < seg && now() < first + hold) continue;
    if (!have) continue;
  send:
    iv = (struct iovec){ b, (size_t)have * 1316 };
    if (plain) { for (int k = 0; k < n; k++) sendto(o, b, 1316, 0, (void *)&da[k], sizeof da[k]); }
#ifdef WITH_URING
    else if (u) { for (int k = 0; k < n; k++) { struct io_uring_sqe *q = io_uring_get_sqe(&ring); io_uring_prep_send(q, cs[k], b, 1316, 0); q->flags |= 0; } io_uring_submit_and_wait(&ring, n); struct io_uring_cqe *e; unsigned h, z = 0; io_uring_for_each_cqe(&ring, h, e) z++; io_uring_cq_advance(&ring, z); }
#endif
    else {
      if (g && have > 1) { for (int k = 0; k < n; k++) { m[k].msg_hdr.msg_control = cb; m[k].msg_hdr.msg_controllen = sizeof cb; } struct cmsghdr *x = CMSG_FIRSTHDR(&m[0].msg_hdr); x->cmsg_level = SOL_UDP; x->cmsg_type = UDP_SEGMENT; x->cmsg_len = CMSG_LEN(2); *(uint16_t *)CMSG_DATA(x) = 1316; }
      else for (int k = 0; k < n; k++) { m[k].msg_hdr.msg_control = NULL; m[k].msg_hdr.msg_controllen = 0; }
      int z = 0; while (z < n) { int r = sendmmsg(o, m + z, n - z, 0); if (r <= 0) { z++; continue; } z += r; }
    }
    have = 0;
  }
}
