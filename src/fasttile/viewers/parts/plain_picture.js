// One picture without a library.

run(null, showPlainly);
