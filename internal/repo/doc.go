// Package repo holds the tests that look at the repository itself: who imports whom, which modules the public packages
// bring along, and whether the documents are true.
package repo
