package main

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"
)

func checkCommand(u *ui) *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Check the configuration and print what it comes to",
		Long: "Check reads the configuration as serve does, with its includes and the environment, and prints the result\n" +
			"with secrets hidden. It ends with code 2 if serve would refuse to start.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := u.load()
			if err != nil {
				return err
			}
			for _, w := range c.warnings {
				u.note("warning: %s", w)
			}
			text, err := c.effective()
			if err != nil {
				return err
			}
			_, err = u.out.Write(text)
			return err
		},
	}
}

// effective prints c as TOML with the limits of each site spelt out and secrets hidden.
func (c *Config) effective() ([]byte, error) {
	shown := *c
	shown.Sites = slices.Clone(c.Sites)
	for i := range shown.Sites {
		s := &shown.Sites[i]
		s.Salt = hidden
		s.Keys = slices.Clone(s.Keys)
		for j, k := range s.Keys {
			kid, _, _ := strings.Cut(k, ".")
			s.Keys[j] = kid + "." + hidden
		}
		if len(s.Credentials) == 0 {
			s.Credentials = []string{credentialGrant}
		}
	}
	var b bytes.Buffer
	for _, f := range c.files {
		fmt.Fprintf(&b, "# read %s\n", f)
	}
	enc := toml.NewEncoder(&b)
	enc.Indent = ""
	if err := enc.Encode(withoutZero(shown)); err != nil {
		return nil, fmt.Errorf("print configuration: %w", err)
	}
	return b.Bytes(), nil
}

const hidden = "(hidden)"

// withoutZero turns a configuration struct into a table without the keys that were left at nothing, so that what is
// printed is what matters.
func withoutZero(v any) map[string]any {
	out := map[string]any{}
	addFields(out, reflect.ValueOf(v))
	return out
}

func addFields(out map[string]any, v reflect.Value) {
	for f, fv := range v.Fields() {
		name := f.Tag.Get("toml")
		switch {
		case f.Anonymous && name == "":
			addFields(out, fv)
		case name == "" || fv.IsZero():
		case fv.Kind() == reflect.Struct:
			sub := map[string]any{}
			addFields(sub, fv)
			out[name] = sub
		case fv.Kind() == reflect.Slice && fv.Type().Elem().Kind() == reflect.Struct && fv.Type().Elem() != reflect.TypeFor[CIDR]():
			var list []map[string]any
			for i := range fv.Len() {
				sub := map[string]any{}
				addFields(sub, fv.Index(i))
				list = append(list, sub)
			}
			out[name] = list
		default:
			out[name] = fv.Interface()
		}
	}
}
