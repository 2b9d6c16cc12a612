package sink

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// LiveOptions say how Live draws.
type LiveOptions struct {
	// Ticks makes Live draw: once for every value, which is the time to show.
	// Ten a second are pleasant. Live draws the end without being asked.
	Ticks <-chan time.Time
	// Size is the terminal's columns and rows, asked before every frame; nil
	// or a zero answer stand for 80 x 24.
	Size  func() (columns, rows int)
	Color bool // also when false the view moves; it has no colour and no dim text
	ASCII bool // for terminals that do not speak UTF-8
}

// Live shows a run in a terminal: a line that moves for each bake under way,
// and above it, for good, a line for each bake that has ended; a failed one
// keeps its last output. Emit only takes the event in; drawing happens in a
// goroutine of its own, so that a slow terminal never holds a bake up.
//
// Close must be called, also when the run was interrupted: it gives the cursor
// back.
type Live struct {
	options LiveOptions
	style   style

	mu    sync.Mutex // guards tally and above
	tally tally
	above []string // lines to print for good with the next frame

	draw   sync.Mutex // held while something is on its way to the terminal
	out    output
	now    time.Time // of the last tick
	frame  int
	shown  []int // widths of the lines of the frame on the screen
	hidden bool  // the cursor

	stop chan struct{}
	over sync.WaitGroup
}

// NewLive makes a Live sink that draws to a terminal and starts it.
func NewLive(w io.Writer, o LiveOptions) *Live {
	l := &Live{options: o, style: newStyle(o.Color, o.ASCII), out: output{w: w}, stop: make(chan struct{})}
	l.over.Go(l.loop)
	return l
}

// Emit takes the event in. It shows with the next frame.
func (l *Live) Emit(e bake.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.tally.apply(e)
	l.above = append(l.above, l.style.lasting(&l.tally, b, e)...)
}

// Interact takes the moving part off the screen and gives the cursor back
// while ask runs, so that it can talk with the person at the terminal. Events
// are taken in meanwhile, and shown afterwards.
func (l *Live) Interact(ask func() error) error {
	l.draw.Lock()
	defer l.draw.Unlock()
	l.write(l.takeAbove(), nil)
	l.showCursor()
	return ask()
}

// Close draws a last time, leaves a summary on the screen and gives the cursor
// back. Events that come later are lost. It may be called more than once.
func (l *Live) Close() error {
	l.draw.Lock()
	closed := l.stopped()
	if !closed {
		close(l.stop)
	}
	l.draw.Unlock()
	l.over.Wait()
	if closed {
		return l.out.Err()
	}
	l.draw.Lock()
	defer l.draw.Unlock()
	above := l.takeAbove()
	l.mu.Lock()
	above = append(above, l.style.ending(&l.tally, l.now)...)
	l.mu.Unlock()
	l.write(above, nil)
	l.showCursor()
	return l.out.Err()
}

func (l *Live) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

func (l *Live) loop() {
	for {
		select {
		case <-l.stop:
			return
		case now, ok := <-l.options.Ticks:
			if !ok {
				return
			}
			l.next(now)
		}
	}
}

// next draws one frame.
func (l *Live) next(now time.Time) {
	l.draw.Lock()
	defer l.draw.Unlock()
	if l.stopped() {
		return
	}
	l.now = now
	l.frame++
	columns, rows := l.size()
	above := l.takeAbove()
	l.mu.Lock()
	lines := l.style.moving(&l.tally, view{now: now, frame: l.frame, columns: columns, rows: rows})
	l.mu.Unlock()
	l.write(above, lines)
}

func (l *Live) takeAbove() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	above := l.above
	l.above = nil
	return above
}

func (l *Live) size() (columns, rows int) {
	if l.options.Size != nil {
		columns, rows = l.options.Size()
	}
	if columns <= 0 || rows <= 0 {
		return 80, 24
	}
	return columns, rows
}

// The terminal control sequences that Live uses.
const (
	hideCursor  = "\x1b[?25l"
	showCursor  = "\x1b[?25h"
	beginUpdate = "\x1b[?2026h" // draw all at once, where the terminal can
	endUpdate   = "\x1b[?2026l"
	eraseLine   = "\x1b[K" // to its end
	eraseBelow  = "\x1b[J"
)

// write replaces the moving lines on the screen: above stays, moving will be
// replaced by the next call. The caller holds draw.
func (l *Live) write(above, moving []string) {
	columns, _ := l.size()
	var b bytes.Buffer
	b.WriteString(beginUpdate)
	if !l.hidden && len(moving) > 0 {
		b.WriteString(hideCursor)
		l.hidden = true
	}
	b.WriteString(up(l.shown, columns))
	for _, line := range append(above, moving...) {
		b.WriteString(line + eraseLine + "\r\n")
	}
	b.WriteString(eraseBelow + endUpdate)
	l.shown = l.shown[:0]
	for _, line := range moving {
		l.shown = append(l.shown, width(Clean(line)))
	}
	l.flush(b.Bytes())
}

func (l *Live) showCursor() {
	if l.hidden {
		l.flush([]byte(showCursor))
		l.hidden = false
	}
}

func (l *Live) flush(p []byte) {
	l.out.mu.Lock()
	defer l.out.mu.Unlock()
	_, _ = l.out.Write(p)
}

// up moves the cursor to the start of the first of the lines above it. In a
// window made narrower since they were drawn a line takes several rows.
func up(widths []int, columns int) string {
	rows := 0
	for _, w := range widths {
		rows += max(1, (w+columns-1)/columns)
	}
	return "\r" + strings.Repeat("\x1b[A", rows)
}
