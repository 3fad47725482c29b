package broker

import "encoding/json"

// topic is a channel with at least one live entry on a shard, and the index over those entries: an event meets the
// entries that it can match, not all there are.
type topic struct {
	channel Channel
	plain   bucket // entries without a filter
	// filtered holds each entry with a filter under one key of it and the value wanted there.
	filtered map[string]map[string]*bucket
	entries  int
}

// bucket is a set of entries; each knows its place, so that one leaves without a search.
type bucket struct{ all []*entry }

func (b *bucket) add(e *entry) {
	e.bucket, e.slot = b, int32(len(b.all)) //nolint:gosec // audited: streams and their entries are limited far below
	b.all = append(b.all, e)
}

func (b *bucket) remove(e *entry) {
	last := len(b.all) - 1
	moved := b.all[last]
	b.all[e.slot], moved.slot = moved, e.slot
	b.all[last] = nil
	b.all = b.all[:last]
	e.bucket = nil
}

func (t *topic) add(e *entry) {
	t.entries++
	if len(e.filter) == 0 {
		t.plain.add(e)
		return
	}
	key := e.filter.indexKey()
	if t.filtered == nil {
		t.filtered = make(map[string]map[string]*bucket)
	}
	values := t.filtered[key]
	if values == nil {
		values = make(map[string]*bucket)
		t.filtered[key] = values
	}
	b := values[e.filter[key]]
	if b == nil {
		b = &bucket{}
		values[e.filter[key]] = b
	}
	b.add(e)
}

func (t *topic) remove(e *entry) {
	t.entries--
	b := e.bucket
	b.remove(e)
	if len(e.filter) == 0 || len(b.all) > 0 {
		return
	}
	key := e.filter.indexKey()
	values := t.filtered[key]
	delete(values, e.filter[key])
	if len(values) == 0 {
		delete(t.filtered, key)
	}
}

// each calls visit with every entry.
func (t *topic) each(visit func(*entry)) {
	for _, e := range t.plain.all {
		visit(e)
	}
	for _, values := range t.filtered {
		for _, b := range values {
			for _, e := range b.all {
				visit(e)
			}
		}
	}
}

// matching calls visit with every entry that f matches; one may come twice.
func (t *topic) matching(f *Frame, visit func(*entry)) {
	for _, e := range t.plain.all {
		visit(e)
	}
	if len(t.filtered) == 0 {
		return
	}
	top := topLevel(f.payload)
	for key, values := range t.filtered {
		raw, found := top[key]
		if !found && key == idKey {
			t.matchingIDs(top, values, visit)
			continue
		}
		if value, ok := scalarString(raw); ok {
			values[value].match(top, visit)
		}
	}
}

// matchingIDs serves {"id":5} on data without id whose ids hold 5.
func (t *topic) matchingIDs(top map[string]json.RawMessage, values map[string]*bucket, visit func(*entry)) {
	var ids []json.RawMessage
	if raw := top[idsKey]; len(raw) == 0 || json.Unmarshal(raw, &ids) != nil {
		return
	}
	for _, id := range ids {
		if value, ok := scalarString(id); ok {
			values[value].match(top, visit)
		}
	}
}

func (b *bucket) match(top map[string]json.RawMessage, visit func(*entry)) {
	if b == nil {
		return
	}
	for _, e := range b.all {
		if len(e.filter) == 1 || e.filter.matchTop(top) {
			visit(e)
		}
	}
}
