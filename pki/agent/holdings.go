package agent

// holdings are the identities that the streams of one process keep alive.
type holdings struct {
	registry *registry
	held     map[string]*identity
}

// list returns what is held, in no order.
func (h *holdings) list() []*identity {
	list := make([]*identity, 0, len(h.held))
	for _, i := range h.held {
		list = append(list, i)
	}
	return list
}

// replace holds the identities of exactly these names and returns them in order. What stays is held all the while.
func (h *holdings) replace(wanted []names) []*identity {
	next := map[string]*identity{}
	list := make([]*identity, 0, len(wanted))
	for _, n := range wanted {
		key := n.key()
		i, ok := h.held[key]
		if !ok {
			i = h.registry.hold(n)
		}
		delete(h.held, key)
		next[key] = i
		list = append(list, i)
	}
	for _, i := range h.held {
		h.registry.release(i)
	}
	h.held = next
	return list
}
