// Package bake holds the nouns: what a builder, a machine, a communicator, a
// provisioner, a post-processor, an artifact and an event are, and how a
// component type (a Kind) describes itself. It does nothing by itself and
// imports no component.
package bake
