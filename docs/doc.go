// Package docs holds the documentation and the tests that keep it true: snippets are run as they are printed.
package docs
