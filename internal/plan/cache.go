package plan

// Cache says where steps are kept besides this machine. Who runs the plan may
// say otherwise, and may be allowed less.
type Cache struct {
	From []CacheRef `key:"from" doc:"Registries to take steps from that were baked elsewhere, asked in turn: HOST/REPOSITORY or HOST/REPOSITORY:TAG, either with ,scope=NAME behind it, or what buildx takes: type=registry,ref=HOST/REPOSITORY." opt:"known" json:"from,omitempty"`
	To   *CacheRef  `key:"to" doc:"The registry to keep steps in, written likewise." opt:"known" json:"to,omitempty"`
}
