package guest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/imgbake/imgbake-action/internal/layer"
)

func run(command string, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	fail := func(err error) int {
		switch {
		case err == nil:
			return 0
		case errors.Is(err, errMissing) && (command == Get || command == Why):
			return StatusMissing
		}
		fmt.Fprintln(stderr, err)
		if errors.Is(err, errRefused) {
			return StatusRefused
		}
		return StatusFailed
	}
	switch {
	case command == Pause && len(args) == 0:
		return pause(stdin)
	case command == Exec && len(args) > 2:
		return execute(args[0], args[1], args[2:])
	case command == Kill && len(args) == 1:
		return fail(kill("/proc", args[0]))
	case command == Kill && len(args) == 2:
		return fail(kill(args[1], args[0]))
	case command == Why && len(args) == 1:
		return fail(why(args[0], stdout))
	case command == Scan && len(args) == 0:
		return fail(scan(stdout))
	case command == Delta && len(args) == 1:
		return fail(delta(args[0], stdin, stdout))
	case command == Settle && len(args) == 1:
		return fail(settle(args[0], stdin))
	case command == Put && len(args) == 1:
		return fail(put(args[0], stdin))
	case command == Get && len(args) == 1:
		return fail(get(args[0], stdout))
	case command == Mounts && len(args) == 0:
		return fail(mounts(stdin, stdout))
	}
	fmt.Fprintf(stderr, "%s: unknown command, or wrong number of arguments\n", command)
	return StatusUsage
}

var errMissing = fs.ErrNotExist

func why(id string, stdout io.Writer) error {
	text, err := os.ReadFile(reasonFile(id))
	if err != nil {
		return err
	}
	_, err = stdout.Write(text)
	return err
}

func scan(stdout io.Writer) error {
	index, err := layer.Scan(context.Background(), "/", layer.ScanOptions{})
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(stdout, 1<<16)
	if err := index.Encode(out); err != nil {
		return err
	}
	return out.Flush()
}

// delta's since is in nanoseconds since 1970.
func delta(since string, stdin io.Reader, stdout io.Writer) error {
	base, began, err := indexSince(since, stdin)
	if err != nil {
		return err
	}
	opts := layer.DeltaOptions{Since: began, TrustCtime: layer.TrustworthyCtime("/")}
	out := bufio.NewWriterSize(stdout, 1<<16)
	if err := layer.Delta(context.Background(), "/", base, opts, out); err != nil {
		return err
	}
	return out.Flush()
}

func settle(since string, stdin io.Reader) error {
	index, began, err := indexSince(since, stdin)
	if err != nil {
		return err
	}
	return layer.Settle(context.Background(), "/", index, layer.SettleOptions{Since: began})
}

func indexSince(since string, stdin io.Reader) (*layer.Index, time.Time, error) {
	nanos, err := strconv.ParseInt(since, 10, 64)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("since %q: %w", since, err)
	}
	index, err := layer.DecodeIndex(bufio.NewReaderSize(stdin, 1<<16))
	return index, time.Unix(0, nanos), err
}
