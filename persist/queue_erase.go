package persist

// parts are what can go of an ended delivery while its outcome stays.
type parts struct {
	replies bool // reply, error and data
	log     bool
}

// eraser makes what a sweep does with each delivery.
func eraser(p parts) func(*group, hash, *deliveryRecord) error {
	return func(g *group, name hash, r *deliveryRecord) error { return g.erase(name, r, p) }
}

// erase removes parts of an ended delivery.
func (g *group) erase(name hash, r *deliveryRecord, p parts) error {
	body, err := g.keptBody(name, r, p)
	if err != nil {
		return err
	}
	left := *r
	left.Seal = ""
	left.Data, left.Reply, left.Error, left.Log = nil, nil, nil, nil
	left.measure(body)
	if p.replies {
		left.dataBytes = 0
		if err := g.delete(keyHash(kindData, name)); err != nil {
			return err
		}
	}
	return g.put(name, r, &left, body)
}

// keptBody is what is left of reply and log.
func (g *group) keptBody(name hash, r *deliveryRecord, p parts) (bodies, error) {
	if p.replies && p.log {
		return bodies{}, nil
	}
	if err := loadBody(g.txn, name, r); err != nil {
		return bodies{}, err
	}
	if p.replies {
		r.Reply, r.Error = nil, nil
	}
	if p.log {
		r.Log = nil
	}
	return encodeBody(&r.Delivery), nil
}
