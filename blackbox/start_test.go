package blackbox_test

import "testing"

// start runs a broker with one site and gives a client for it.
func start(t testing.TB, change ...func(*config)) *client {
	t.Helper()
	s := newSite("school")
	conf := config{sites: []*site{s}}
	for _, f := range change {
		f(&conf)
	}
	return newClient(t, startBroker(t, conf), s)
}
