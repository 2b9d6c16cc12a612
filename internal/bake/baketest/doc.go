// Package baketest helps to test components and those who use them: suites
// that every builder, communicator and provisioner must pass, and fakes that
// record what is asked of them.
package baketest
