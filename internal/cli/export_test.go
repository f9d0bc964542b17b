package cli

// Text is the table on a terminal of so many columns.
func (t *Table) Text(room int) string { return t.text(t.Header, room) }
