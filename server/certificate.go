package main

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// certificate is the server's certificate, as its files had it when they were last read.
type certificate struct {
	certFile, keyFile string
	log               *zap.Logger
	now               atomic.Pointer[tls.Certificate]
}

// loadCertificate reads a certificate, with its chain behind it, and its private key, both in PEM.
func loadCertificate(certFile, keyFile string, log *zap.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	return c, c.load()
}

func (c *certificate) load() error {
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return fmt.Errorf("-tls-cert: %w; name a PEM file that roverd may read", err)
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return fmt.Errorf("-tls-key: %w; name a PEM file that roverd may read", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("-tls-cert %s, -tls-key %s: %w; want a certificate, its chain behind it, and its private key, in PEM",
			c.certFile, c.keyFile, err)
	}
	c.now.Store(&pair)
	leaf := pair.Leaf
	c.log.Info("TLS certificate", zap.String("file", c.certFile), zap.Strings("names", leaf.DNSNames),
		zap.Stringers("addresses", leaf.IPAddresses), zap.Time("expires", leaf.NotAfter))
	switch now := time.Now(); {
	case now.After(leaf.NotAfter):
		c.log.Warn("the TLS certificate has expired: browsers refuse it; put a new one in its place and send SIGHUP",
			zap.String("file", c.certFile), zap.Time("expired", leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		c.log.Warn("the TLS certificate is not valid yet: browsers refuse it; is the clock right?",
			zap.String("file", c.certFile), zap.Time("from", leaf.NotBefore))
	}
	// A group may read it, as Debian's ssl-cert does.
	if info, err := os.Stat(c.keyFile); err == nil && info.Mode().Perm()&0o027 != 0 {
		c.log.Warn("others than the owner and the group may read the TLS key, or change it: chmod o-rwx,g-w "+c.keyFile,
			zap.String("mode", fs.FileMode(info.Mode().Perm()).String()))
	}
	return nil
}

// reloadOn reads the files again at each signal, until stop is called. The signal does nothing else from then on.
func (c *certificate) reloadOn(sig os.Signal) (stop func()) {
	signal.Reset(sig)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, sig)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range signals {
			if err := c.load(); err != nil {
				c.log.Error("the TLS certificate stays as it was", zap.Error(err))
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-ended
	}
}

// config is what all TLS connections share.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"}, // a WebSocket over HTTP/2 is another thing (RFC 8441)
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.now.Load(), nil },
	}
}
