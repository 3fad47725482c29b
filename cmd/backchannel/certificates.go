package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// certificateCheck is how often the files are looked at: renewals need no signal, and a handshake costs no stat.
const certificateCheck = 10 * time.Second

// certificates serves a certificate from two files and reads them again when they change. A change that cannot be
// read (a renewal caught half-way) keeps the one before. Get may be called from many goroutines.
type certificates struct {
	certFile, keyFile string
	now               func() time.Time

	mu      sync.Mutex
	cert    *tls.Certificate // guarded by mu
	stamp   string           // guarded by mu; of the files that cert was read from
	checked time.Time        // guarded by mu
}

// newCertificates reads the files for the first time.
func newCertificates(certFile, keyFile string) (*certificates, error) {
	c := &certificates{certFile: certFile, keyFile: keyFile, now: time.Now}
	cert, stamp, err := c.read()
	if err != nil {
		return nil, err
	}
	c.cert, c.stamp, c.checked = cert, stamp, c.now()
	return c, nil
}

// Get is a tls.Config.GetCertificate.
func (c *certificates) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	cert, due := c.cert, c.now().Sub(c.checked) >= certificateCheck
	if due {
		c.checked = c.now()
	}
	stamp := c.stamp
	c.mu.Unlock()
	if !due || stamp == c.fileStamp() {
		return cert, nil
	}
	fresh, stamp, err := c.read()
	if err != nil {
		return cert, nil //nolint:nilerr // the certificate before is still good; the next check tries again
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cert, c.stamp = fresh, stamp
	return fresh, nil
}

func (c *certificates) read() (*tls.Certificate, string, error) {
	stamp := c.fileStamp()
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return nil, "", fmt.Errorf("read certificate: %w", err)
	}
	return &cert, stamp, nil
}

// fileStamp changes when one of the files does, through symbolic links: that is how certbot renews.
func (c *certificates) fileStamp() string {
	out := ""
	for _, f := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(f); err == nil {
			out += fmt.Sprintf("%s %d;", info.ModTime(), info.Size())
		}
	}
	return out
}
