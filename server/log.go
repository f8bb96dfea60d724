package main

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	logQueue = 256         // lines that may wait for a slow terminal or journal
	logFlush = time.Second // how long the end of the program waits for them
)

// level is from where on is logged: one of zap's, but for those that end the program.
type level struct{ zapcore.Level }

func (l *level) UnmarshalText(p []byte) error {
	if err := l.Level.UnmarshalText(p); err != nil || l.Level > zapcore.ErrorLevel {
		return fmt.Errorf("%q: want debug, info, warn or error", p)
	}
	return nil
}

// Set reads the flag.
func (l *level) Set(s string) error { return l.UnmarshalText([]byte(s)) }

// newLogger logs to w, which may block: whoever logs does not. close waits, for a bounded time, until all is written.
func newLogger(level zapcore.Level, w io.Writer) (logger *zap.Logger, close func()) {
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.ISO8601TimeEncoder
	enc.EncodeLevel = zapcore.CapitalLevelEncoder
	q := newLogWriter(w)
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(enc), q, level)), q.close
}

// logWriter passes lines on to a writer on a goroutine of its own. An event loop must not wait for a terminal that is
// paused or for a journal that is stuck; so lines that find the queue full are dropped, and counted.
type logWriter struct {
	to      io.Writer
	lines   chan []byte
	dropped atomic.Int64
	end     chan struct{} // closed to end the goroutine
	ended   chan struct{} // closed by it
	once    sync.Once
}

func newLogWriter(to io.Writer) *logWriter {
	w := &logWriter{to: to, lines: make(chan []byte, logQueue), end: make(chan struct{}), ended: make(chan struct{})}
	go w.run()
	return w
}

func (w *logWriter) Write(p []byte) (int, error) {
	select {
	case w.lines <- append([]byte(nil), p...): // zap reuses p
	default:
		w.dropped.Add(1)
	}
	return len(p), nil
}

// Sync is for zapcore.WriteSyncer; close does what it would have to wait for.
func (w *logWriter) Sync() error { return nil }

func (w *logWriter) run() {
	defer close(w.ended)
	for {
		select {
		case line := <-w.lines:
			w.write(line)
			continue
		default:
		}
		select { // nothing waits
		case line := <-w.lines:
			w.write(line)
		case <-w.end:
			return
		}
	}
}

func (w *logWriter) write(line []byte) {
	if n := w.dropped.Swap(0); n > 0 {
		fmt.Fprintf(w.to, "%d log lines were dropped: they were not read fast enough\n", n)
	}
	w.to.Write(line)
}

func (w *logWriter) close() {
	w.once.Do(func() { close(w.end) })
	select {
	case <-w.ended:
	case <-time.After(logFlush):
	}
}
