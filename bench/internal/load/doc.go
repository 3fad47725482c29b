// Package load is the generator: subscribers and publishers over raw epoll, and the account of what every subscriber
// got. It has one core, so it parses no more than it has to: the lines of a stream and the number in each payload.
//
// There are no goroutines and no locks. A Loop and all that belongs to it are of one goroutine, which calls Poll.
// Linux only.
package load
