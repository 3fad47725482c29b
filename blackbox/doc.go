// Package blackbox judges the built broker from outside. Its tests start the real binary with a configuration file of
// their own, speak to it over real sockets with clients written from the protocol alone, kill it without warning, and
// compare what came out with what was acknowledged. Nothing of the broker's own packages is imported, so a
// misunderstanding shared by server and client cannot pass unseen.
//
// The normal run is short. The whole of it, with ten kills over a minute, is behind a flag:
//
//	go test ./blackbox
//	go test ./blackbox -torture -run Torture -timeout 15m
//
// Another binary than the one built from this tree can be judged with -broker FILE, and -broker-race builds the broker
// with the race detector. The Chromium test is skipped where Chromium is missing, unless CI is set.
package blackbox
