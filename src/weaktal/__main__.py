from weaktal.cli import main

raise SystemExit(main())
