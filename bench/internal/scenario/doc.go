// Package scenario holds what is measured: each scenario starts a fresh server, loads it, takes figures from outside
// its process and settles the account of every delivery.
package scenario
