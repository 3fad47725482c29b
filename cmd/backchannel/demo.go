package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"backchannel/cmd/backchannel/demo"
)

func demoCommand(u *ui) *cobra.Command {
	listen := "127.0.0.1:8477"
	cmd := &cobra.Command{
		Use: "demo", Short: "Show it: a broker, a small LMS and a page, in one command",
		Long: "Demo runs a real broker on a store that is removed at the end, a small LMS with a page, and a network between\n" +
			"them that the page can make hostile. Open the URL it prints, in two windows. It ends with Ctrl-C.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			program, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program to start the broker with: %w", err)
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return demo.Run(ctx, demo.Options{
				Program: program, Listen: listen, ErrOut: u.err,
				Log: slog.New(slog.NewTextHandler(u.err, nil)),
				Ready: func(url string) {
					_ = u.print("Open " + url + " in two windows. Ctrl-C ends the demo.")
				},
			})
		},
	}
	cmd.Flags().StringVar(&listen, "listen", listen, "`address` of the page; port 0 takes a free one")
	return cmd
}
