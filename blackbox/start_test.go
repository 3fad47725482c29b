package blackbox_test

import "testing"

// start runs a broker with one site and gives a client for it. Tests that use it run beside each other.
func start(t *testing.T, change ...func(*config)) *client {
	t.Helper()
	t.Parallel()
	return startAlone(t, change...)
}

// startAlone is start for tests that want the machine for themselves.
func startAlone(t testing.TB, change ...func(*config)) *client {
	t.Helper()
	s := newSite("school")
	conf := config{sites: []*site{s}}
	for _, f := range change {
		f(&conf)
	}
	return newClient(t, startBroker(t, conf), s)
}
