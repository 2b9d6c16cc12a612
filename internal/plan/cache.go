package plan

import "github.com/imgbake/imgbake-action/internal/value"

// Cache says where steps are kept besides this machine. Who runs the plan may
// say otherwise, and may be allowed less.
type Cache struct {
	From []CacheRef `key:"from" doc:"Registries to take steps from that were baked elsewhere, asked in turn: HOST/REPOSITORY or HOST/REPOSITORY:TAG, either with ,scope=NAME behind it, or what buildx takes: type=registry,ref=HOST/REPOSITORY." opt:"known" json:"from,omitempty"`
	To   *CacheRef  `key:"to" doc:"The registry to keep steps in, written likewise." opt:"known" json:"to,omitempty"`
}

// cache reads where the template keeps steps. What is no mapping is one place
// for both, and an empty text no place.
func (p *planner) cache(n value.Node) (c Cache) {
	n = p.eval(n, p.base)
	if _, long := n.V.(value.Object); !long {
		n.V = value.Object{{Key: "from", KeyPos: n.Pos, Node: n}, {Key: "to", KeyPos: n.Pos, Node: n}}
	}
	var said Cache
	_, problems := value.Decode(n, &said)
	p.problems.Append(problems)
	for _, ref := range said.From {
		if ref != (CacheRef{}) {
			c.From = append(c.From, ref)
		}
	}
	if said.To != nil && *said.To != (CacheRef{}) {
		c.To = said.To
	}
	return c
}
