package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// get makes the target a plain HTTP server: what is sent over and over is a GET of the URL, on connections that are kept,
// and what comes back is told apart by its length, which must be the same each time. It is there to hold bench against
// wrk and its like.
func (t *target) get(ctx context.Context, path string) error {
	t.ask = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n", path, t.host)
	if t.token != "" {
		t.ask = fmt.Appendf(t.ask, "%s: %s%s\r\n", authorization, bearer, t.token)
	}
	t.ask = append(t.ask, "\r\n"...)

	const patience = 5 * time.Second
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", t.addr.String())
	if err != nil {
		return t.explain(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(t.ask); err != nil {
		return t.explain(err)
	}
	count := &counter{r: conn}
	in := bufio.NewReader(count)
	res, err := http.ReadResponse(in, nil)
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
	}
	switch {
	case err != nil:
		return fmt.Errorf("-get: %w", t.explain(err))
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("-get: the server answered %s", res.Status)
	case res.Close:
		return fmt.Errorf("-get: the server does not keep the connection")
	case count.n > maxMessage:
		return fmt.Errorf("-get: the answer has %d bytes: want up to %d", count.n, maxMessage)
	}
	t.raw, t.request = count.n, nil
	return nil
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}
