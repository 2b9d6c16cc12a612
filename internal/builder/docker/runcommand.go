package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// imagePlaceholder is what stands for the image in Packer's run_command.
const imagePlaceholder = "{{.Image}}"

// withRunCommand returns the config with what Packer's run_command says in
// terms of the keys. The container's own command is not honoured: imgbake keeps
// the container running by itself.
func (c Config) withRunCommand() (Config, error) {
	args := c.RunCommand
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if isPlaceholder(arg) || (c.Image != "" && arg == c.Image) {
			return c, ignorable(args)
		}
		flag, val, joined := strings.Cut(arg, "=")
		switch {
		case !strings.HasPrefix(arg, "-"):
			return c, fmt.Errorf("run_command: %q stands where a flag or %s should", arg, imagePlaceholder)
		case isSwitch(arg):
			if err := c.setSwitch(arg); err != nil {
				return c, err
			}
			continue
		case !joined && len(args) == 0:
			return c, fmt.Errorf("run_command: %s has no value", flag)
		case !joined:
			val, args = args[0], args[1:]
		}
		if err := c.setFlag(flag, val); err != nil {
			return c, err
		}
	}
	return c, errors.New("run_command: " + imagePlaceholder + " is missing")
}

func isPlaceholder(arg string) bool { return strings.ReplaceAll(arg, " ", "") == imagePlaceholder }

// isSwitch tells flags without a value, and letters such as -dit.
func isSwitch(arg string) bool {
	switch arg {
	case "--detach", "--interactive", "--tty", "--rm", "--privileged", "--init":
		return true
	}
	return len(arg) > 1 && arg[0] == '-' && strings.Trim(arg[1:], "dit") == ""
}

func (c *Config) setSwitch(arg string) error {
	if arg == "--privileged" {
		c.Privileged = true
	}
	return nil // detached, with an input, an init and removed at the end is how the container runs anyway
}

func (c *Config) setFlag(flag, val string) error {
	switch flag {
	case "--entrypoint", "--name", "--hostname", "-h":
		// the container runs the helper; names are imgbake's own
	case "-v", "--volume":
		source, target, ok := strings.Cut(val, ":")
		if !ok {
			return fmt.Errorf("run_command: volume %q is not source:path", val)
		}
		volumes := map[string]string{source: target}
		for k, v := range c.Volumes {
			volumes[k] = v
		}
		c.Volumes = volumes
	case "--tmpfs":
		c.Tmpfs = added(c.Tmpfs, val)
	case "--cap-add":
		c.CapAdd = added(c.CapAdd, val)
	case "--cap-drop":
		c.CapDrop = added(c.CapDrop, val)
	case "--device":
		c.Device = added(c.Device, val)
	case "--add-host":
		c.AddHosts = added(c.AddHosts, val)
	case "--dns":
		c.DNS = added(c.DNS, val)
	case "--ulimit":
		c.Ulimits = added(c.Ulimits, val)
	case "--network", "--net":
		c.Network = val
	case "-m", "--memory":
		c.Memory = val
	case "--cpus":
		return number(flag, val, &c.CPUs)
	case "--pids-limit":
		return number(flag, val, &c.PIDsLimit)
	case "--platform":
		c.Platform = val
	case "--runtime":
		c.Runtime = val
	case "--shm-size":
		c.ShmSize = val
	case "-u", "--user":
		c.ExecUser = val
	default:
		return fmt.Errorf("run_command: %s is not supported", flag)
	}
	return nil
}

func number[N int64 | float64](flag, val string, to *N) error {
	if err := json.Unmarshal([]byte(val), to); err != nil {
		return fmt.Errorf("run_command: %s %q is no number", flag, val)
	}
	return nil
}

// added appends without touching the list that others share.
func added(list []string, item string) []string { return append(list[:len(list):len(list)], item) }

// ignorable accepts what only keeps a container running: a shell.
func ignorable(command []string) error {
	if len(command) == 0 {
		return nil
	}
	switch command[0] {
	case "/bin/sh", "/bin/bash", "sh", "bash", "cat", "tail", "sleep", "/sbin/init", "/bin/cat":
		return nil
	}
	return fmt.Errorf("run_command: the command %q is not run: make it a shell step", strings.Join(command, " "))
}
