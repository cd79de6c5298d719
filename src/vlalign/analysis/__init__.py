"""What trained runs are looked at for beside benchmarks: how precise their aggregators are, and what they see."""
