package cli

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// Mark is how a step of a Progress stands.
type Mark int

// The marks.
const (
	Pending Mark = iota
	Working
	Done
	Failed
)

// frames are drawn in turn beside a step that works.
var frames = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// Progress shows the steps of something that takes a while: drawn again and again in place on a terminal, one line for
// each change elsewhere. Safe for concurrent use.
type Progress struct {
	out   *Output
	began time.Time
	quit  chan struct{}
	idle  sync.WaitGroup

	mu    sync.Mutex
	steps []step
	drawn int // lines on the terminal now
	frame int
}

type step struct {
	name, detail string
	mark         Mark
	began, ended time.Time
}

// NewProgress shows these steps, all pending. End must be called.
func NewProgress(out *Output, names ...string) *Progress {
	p := &Progress{out: out, began: time.Now(), quit: make(chan struct{})}
	for _, name := range names {
		p.steps = append(p.steps, step{name: name})
	}
	if out.live {
		p.idle.Go(p.animate)
	}
	return p
}

// Set changes how a step stands. Unknown names are ignored, as are changes after End.
func (p *Progress) Set(name string, mark Mark, detail string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over() {
		return
	}
	for i := range p.steps {
		s := &p.steps[i]
		if s.name != name || (s.mark == mark && s.detail == detail) {
			continue
		}
		now := time.Now()
		if s.mark == Pending {
			s.began = now
		}
		if mark == Done || mark == Failed {
			s.ended = now
		}
		s.mark, s.detail = mark, detail
		if p.out.live {
			p.draw()
		} else if mark != Pending {
			p.out.Printf("%s\n", p.line(*s))
		}
	}
}

// End draws the steps a last time and leaves them there.
func (p *Progress) End() {
	p.mu.Lock()
	if p.over() {
		p.mu.Unlock()
		return
	}
	close(p.quit)
	if p.out.live {
		p.draw()
	}
	p.mu.Unlock()
	p.idle.Wait()
}

func (p *Progress) over() bool {
	select {
	case <-p.quit:
		return true
	default:
		return false
	}
}

func (p *Progress) animate() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.quit:
			return
		case <-tick.C:
			p.mu.Lock()
			if !p.over() {
				p.frame++
				p.draw()
			}
			p.mu.Unlock()
		}
	}
}

// draw replaces the lines that were drawn before. A line is cut to the width of the terminal: a wrapped one could not be
// drawn over.
func (p *Progress) draw() {
	var text strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&text, "\x1b[%dA", p.drawn)
	}
	for _, s := range p.steps {
		text.WriteString("\r\x1b[2K" + p.line(s) + "\n")
	}
	p.drawn = len(p.steps)
	p.out.Printf("%s", text.String())
}

func (p *Progress) line(s step) string {
	var mark, took string
	switch s.mark {
	case Pending:
		mark = p.out.Dim("·")
	case Working:
		mark = "…"
		if p.out.live {
			mark = p.out.Cyan(frames[p.frame%len(frames)])
			took = seconds(time.Since(s.began))
		}
	case Done:
		mark, took = p.out.Green("✓"), seconds(s.ended.Sub(s.began))
	case Failed:
		mark, took = p.out.Red("✗"), seconds(s.ended.Sub(s.began))
	}
	detail := s.detail
	if p.out.live {
		room := p.out.Width() - 26
		if r := []rune(detail); len(r) > room && room > 1 {
			detail = string(r[:room-1]) + "…"
		}
	}
	return strings.TrimRight(fmt.Sprintf(" %s %-12s %6s  %s", mark, s.name, took, p.out.Dim(detail)), " ")
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }
