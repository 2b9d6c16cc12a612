package github

// Body is the text that a post of these sections has.
func Body(p Post, sections []Section) string {
	return (&upsert{Post: p}).body(merge(nil, sections))
}

// SectionsOf reads the state of a comment.
var SectionsOf = sectionsOf

// Header is the invisible part of a comment, as it is given.
var Header = header
