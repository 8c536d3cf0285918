return "part of core_dir"
