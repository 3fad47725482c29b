// Bench measures Backchannel beside its peers and a bare broadcaster, on one machine, over loopback.
//
//	cd bench && go run . -h
//
// It builds the broker from the checkout, starts one server at a time on one core, loads it from another, checks every
// delivery, and reads the server's CPU time and memory from /proc. Tables go to standard output; with -docs the page
// docs/performance.md and its plots are written anew. Linux only.
package main
