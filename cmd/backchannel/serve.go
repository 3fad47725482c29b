package main
import "github.com/spf13/cobra"
func serveCommand(u *ui) *cobra.Command { return &cobra.Command{Use:"serve"} }
