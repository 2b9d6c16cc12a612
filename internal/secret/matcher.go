package secret

import "slices"

// matcher finds every occurrence of a set of byte strings in one pass: the
// automaton of Aho and Corasick. The root and its children have a full table
// each, since nearly every byte of ordinary text is looked up there; deeper
// nodes have a list of children. It is immutable once built.
type matcher struct {
	nodes []node
	dense [][256]int32 // transitions of node 0 and the nodes of depth 1
}

type node struct {
	first, next int32 // first child, next sibling; 0: none
	fail        int32 // the longest proper suffix that is a prefix of a pattern
	depth       int32
	match       int32 // length of the longest pattern that ends here
	dense       int32 // index of the table, -1: none
	char        byte
}

func newMatcher(patterns []string) *matcher {
	m := &matcher{nodes: []node{{dense: -1}}}
	patterns = slices.Clone(patterns)
	slices.Sort(patterns)
	var path []int32 // nodes of the previous pattern
	previous := ""
	for _, p := range slices.Compact(patterns) {
		shared := 0
		for shared < len(p) && shared < len(previous) && p[shared] == previous[shared] {
			shared++
		}
		path = m.insert(p, path[:shared])
		previous = p
	}
	m.link()
	return m
}

// insert adds a pattern whose first nodes, the path, are there already.
func (m *matcher) insert(p string, path []int32) []int32 {
	at := int32(0)
	if len(path) > 0 {
		at = path[len(path)-1]
	}
	for _, c := range []byte(p[len(path):]) {
		added := int32(len(m.nodes))
		m.nodes = append(m.nodes, node{next: m.nodes[at].first, depth: m.nodes[at].depth + 1, char: c, dense: -1})
		m.nodes[at].first = added
		path = append(path, added)
		at = added
	}
	m.nodes[at].match = int32(len(p))
	return path
}

// link computes fail and match breadth first and fills the tables.
func (m *matcher) link() {
	m.addTable(0)
	queue := []int32{}
	for c := m.nodes[0].first; c != 0; c = m.nodes[c].next {
		m.dense[0][m.nodes[c].char] = c
		queue = append(queue, c)
	}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		n := &m.nodes[at]
		n.match = max(n.match, m.nodes[n.fail].match)
		if n.depth == 1 {
			m.addTable(at)
		}
		for c := n.first; c != 0; c = m.nodes[c].next {
			m.nodes[c].fail = m.step(n.fail, m.nodes[c].char)
			if n.depth == 1 {
				m.dense[n.dense][m.nodes[c].char] = c
			}
			queue = append(queue, c)
		}
	}
}

// addTable gives a node the root's transitions to start from.
func (m *matcher) addTable(at int32) {
	m.nodes[at].dense = int32(len(m.dense))
	var table [256]int32
	if at != 0 {
		table = m.dense[0]
	}
	m.dense = append(m.dense, table)
}

// step is the state after one more byte.
func (m *matcher) step(at int32, b byte) int32 {
	for {
		n := &m.nodes[at]
		if n.dense >= 0 {
			return m.dense[n.dense][b]
		}
		for c := n.first; c != 0; c = m.nodes[c].next {
			if m.nodes[c].char == b {
				return c
			}
		}
		at = n.fail
	}
}
