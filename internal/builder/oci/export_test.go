package oci

// Dir is the folder of the store.
func Dir(b *Baker) string { return b.deps.Store.Dir() }
