package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

func streamsCommand(u *ui) *cobra.Command {
	conn := &connection{u: u}
	cmd := &cobra.Command{
		Use: "streams", Short: "List the open streams of a site, one JSON object a line", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			return u.printPages(cmd.Context(), c, "/v1/streams", "streams", url.Values{})
		},
	}
	conn.flags(cmd)
	return cmd
}

func deliveriesCommand(u *ui) *cobra.Command {
	cmd := &cobra.Command{Use: "deliveries", Short: "List, show and retry deliveries to webhooks"}
	cmd.AddCommand(deliveriesListCommand(u), deliveriesShowCommand(u), deliveriesRetryCommand(u))
	return cmd
}

func deliveriesListCommand(u *ui) *cobra.Command {
	conn := &connection{u: u}
	var state, component string
	cmd := &cobra.Command{
		Use: "list", Short: "List deliveries, newest first, one JSON object a line", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			q := url.Values{}
			for k, v := range map[string]string{"state": state, "component": component} {
				if v != "" {
					q.Set(k, v)
				}
			}
			return u.printPages(cmd.Context(), c, "/v1/deliveries", "deliveries", q)
		},
	}
	conn.flags(cmd)
	cmd.Flags().StringVar(&state, "state", "", "waiting, sending, done or dead")
	cmd.Flags().StringVar(&component, "component", "", "only this component's")
	return cmd
}

func deliveriesShowCommand(u *ui) *cobra.Command {
	conn := &connection{u: u}
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show a delivery with its attempts", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			return u.printIndented(cmd.Context(), c, http.MethodGet, "/v1/deliveries/"+url.PathEscape(args[0]), nil)
		},
	}
	conn.flags(cmd)
	return cmd
}

func deliveriesRetryCommand(u *ui) *cobra.Command {
	conn := &connection{u: u}
	var component string
	var all bool
	cmd := &cobra.Command{
		Use: "retry [ID]", Short: "Try a dead letter again, or all of them",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (all || component != "") {
				return usagef("give an id, or --component NAME, or --all")
			}
			c, err := conn.client()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return u.printIndented(cmd.Context(), c, http.MethodPost, "/v1/deliveries/"+url.PathEscape(args[0])+"/retry", nil)
			}
			body := map[string]string{}
			if component != "" {
				body["component"] = component
			}
			return u.printIndented(cmd.Context(), c, http.MethodPost, "/v1/deliveries/retry", body)
		},
	}
	conn.flags(cmd)
	cmd.Flags().StringVar(&component, "component", "", "every dead letter of this component")
	cmd.Flags().BoolVar(&all, "all", false, "every dead letter of the site")
	return cmd
}

// printPages follows a paged list to its end.
func (u *ui) printPages(ctx context.Context, c *client, path, member string, q url.Values) error {
	for {
		var page map[string]json.RawMessage
		if err := c.call(ctx, http.MethodGet, path, q, nil, &page); err != nil {
			return err
		}
		var items []json.RawMessage
		if err := json.Unmarshal(page[member], &items); err != nil {
			return fmt.Errorf("the answer to %s has no list %q", path, member)
		}
		for _, item := range items {
			if err := u.print(string(item)); err != nil {
				return err
			}
		}
		var next string
		_ = json.Unmarshal(page["next"], &next)
		if next == "" || next == q.Get("after") {
			return nil
		}
		q.Set("after", next)
	}
}

func (u *ui) printIndented(ctx context.Context, c *client, method, path string, body any) error {
	var answer json.RawMessage
	if err := c.call(ctx, method, path, nil, body, &answer); err != nil {
		return err
	}
	if len(answer) == 0 {
		return nil
	}
	var v any
	if err := json.Unmarshal(answer, &v); err != nil {
		return fmt.Errorf("read the answer to %s: %w", path, err)
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("print the answer to %s: %w", path, err)
	}
	return u.print(string(text))
}
