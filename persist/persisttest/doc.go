// Package persisttest is the definition of broker.Log and webhooks.Queue: a rule that is not tested here does not
// exist. Every store runs it, on a real disk where it has one.
//
// Time is the suite's: Clock stands still until it is moved, so what expires does so when a test says so.
package persisttest
