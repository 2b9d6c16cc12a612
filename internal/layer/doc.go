// Package layer knows file trees and the differences between them: an Index
// describes a tree, Delta writes the complete canonical difference of a live
// tree to an index, a Tree turns such differences into the layers that are
// published, without noise, and Apply unpacks one safely.
//
// A layer here is the difference of two trees in path, type, mode, owner,
// extended attributes, link group and content, never the path list an engine
// reports. Same trees give the same bytes.
package layer
