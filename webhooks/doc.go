// Package webhooks brings messages and notices to the components of an LMS: signed (Standard Webhooks), with retries,
// isolated from each other, and with an outcome that is always true.
package webhooks
