package blackbox_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// withTLS runs a broker with a TLS listener and gives a client that speaks HTTP/2 to it.
func withTLS(t *testing.T) *client {
	t.Helper()
	t.Parallel()
	dir := t.TempDir()
	cert, pool := selfSigned(t)
	mustWrite(t, filepath.Join(dir, "cert.pem"), cert[0])
	mustWrite(t, filepath.Join(dir, "key.pem"), cert[1])
	ln := listen(t, 0)
	port := ln.Addr().(*net.TCPAddr).Port //nolint:errcheck,forcetypeassert // it is TCP
	ln.Close()
	s := newSite("school")
	address := fmt.Sprint("127.0.0.1:", port)
	b := startBroker(t, config{sites: []*site{s}, tlsListen: address, tlsDir: dir})
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	t.Cleanup(tr.CloseIdleConnections)
	return &client{b: b, s: s, http: &http.Client{Transport: tr}, base: "https://" + address}
}

func selfSigned(t *testing.T) (pair [2]string, pool *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	pair[0] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	pair[1] = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(pair[0]))
	return pair, pool
}

func TestStreamsOverHTTP2AreTheSame(t *testing.T) {
	c := withTLS(t)
	h := c.s.hash("a")
	origin := c.publish(t, h, 0)
	const n = 20
	streams := make([]*stream, n)
	for i := range streams {
		g := c.s.grant([]entry{{"h": h}}, func(g claims) { g["jti"] = fmt.Sprint("j", i) })
		streams[i] = c.open(t, map[string]any{"grants": []string{g}, "cursor": origin.String()})
		if proto := streams[i].resp.Proto; proto != "HTTP/2.0" {
			t.Fatalf("spoke %s", proto)
		}
		streams[i].hello()
		streams[i].caughtUp()
	}
	for i := range 50 {
		c.publish(t, h, entry{"i": i, "pad": strings.Repeat("x", 8<<10)})
	}
	for _, s := range streams {
		s.awaitEvents(50)
	}
	c.revoke(t, map[string]any{"jti": "j0"})
	if f := streams[0].await("bye"); !strings.Contains(f.data, "revoked") {
		t.Errorf("bye: %s", f.data)
	}
	streams[0].ended(waitLimit)
	streams[1].close() // one stream goes, its connection stays for the others
	c.publish(t, h, "last")
	for _, s := range streams[2:] {
		s.awaitEvents(51)
	}
	c.b.signal(syscall.SIGTERM)
	for _, s := range streams[2:] {
		if f := s.await("bye"); !strings.Contains(f.data, "drain") {
			t.Errorf("bye: %s", f.data)
		}
		s.ended(waitLimit)
	}
	if code := c.b.waitExit(startLimit); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestASlowHTTP2ReaderLosesNothing(t *testing.T) {
	c := withTLS(t)
	h := c.s.hash("a")
	resp, err := c.send(t.Context(), http.MethodPost, "/v1/stream", map[string]any{"grants": []string{c.s.hears(h)}})
	if err != nil {
		t.Fatal(err)
	}
	// Nothing is read yet: the stream's window fills, others on the same connection go on.
	const events = 600
	for i := range events {
		c.publish(t, h, entry{"i": i, "pad": strings.Repeat("x", 16<<10)})
	}
	s := adopt(t, resp, rules{})
	if got := s.awaitEvents(events); len(got) != events {
		t.Errorf("heard %d", len(got))
	}
}

func TestLongPollsWorkOverHTTP2(t *testing.T) {
	c := withTLS(t)
	h := c.s.hash("a")
	var r rules
	p, _ := c.poll(t, &r, map[string]any{"grants": []string{c.s.hears(h)}})
	c.publish(t, h, 1)
	if _, events := c.poll(t, &r, map[string]any{"resume": p.Resume, "cursor": p.Cursor, "wait": 5}); len(events) != 1 {
		t.Errorf("heard %v", datas(events))
	}
}
