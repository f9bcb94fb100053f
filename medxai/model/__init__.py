"""Touch a model without leaving a trace."""
