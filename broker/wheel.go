package broker

const (
	wheelSlots = 128
	wheelGrain = int64(256) // ms
)

// wheel is a timer wheel: one look a tick at the streams that may be due, and no timer for each. A stream is in one
// slot; it is looked at no later than a grain after it is due, and is put further by what the look returns.
type wheel struct {
	slots [wheelSlots][]wheelItem
	now   int64 // in grains; the slot of now has been looked at
}

type wheelItem struct {
	st  *stream
	due int64 // ms
}

// start sets the wheel to now (ms).
func (w *wheel) start(now int64) { w.now = now / wheelGrain }

// put has st looked at when due, in milliseconds, is reached.
func (w *wheel) put(st *stream, due int64) {
	// Rounded up, and never in the slot just looked at, which comes round again only after a whole turn.
	at := max((due+wheelGrain-1)/wheelGrain, w.now+1)
	// What lies beyond the horizon waits in the last slot and is put again from there.
	at = min(at, w.now+wheelSlots-1)
	st.due = due
	slot := &w.slots[at%wheelSlots]
	*slot = append(*slot, wheelItem{st, due})
}

// advance looks at every stream whose time has come by now (ms). look returns when the stream is due next, 0 for
// never again.
func (w *wheel) advance(now int64, look func(*stream) (next int64)) {
	target := now / wheelGrain
	w.now = max(w.now, target-wheelSlots) // after a sleep of the machine one turn reaches every slot
	for w.now < target {
		w.now++
		slot := &w.slots[w.now%wheelSlots]
		items := *slot
		*slot = nil
		for _, it := range items {
			if it.st.state == stateClosed || it.due != it.st.due {
				continue // gone, or put again since: that item counts
			}
			if it.due > now {
				w.put(it.st, it.due)
			} else if next := look(it.st); next != 0 {
				w.put(it.st, next)
			}
		}
		clear(items)
		*slot = items[:0] // nothing was put into this slot meanwhile: put never chooses it
	}
}
