"""(model, images, targets) to maps on the layer grid; knows neither affines nor files."""
